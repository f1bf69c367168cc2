locals {
  policies = "${path.module}/../../aws/policies"

  # What the placeholders of the policies mean here.
  places = {
    bucket_arn = aws_s3_bucket.this.arn
    key_arn    = aws_kms_key.this.arn
  }
}

# For people: attach them to the roles of whoever submits by hand, and of whoever reads reports.
resource "aws_iam_policy" "person" {
  for_each = toset(["submitter", "reader"])

  name   = "${var.name}-${each.key}"
  policy = templatefile("${local.policies}/${each.key}.json", local.places)
}

data "aws_iam_policy_document" "tasks" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["ecs-tasks.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [data.aws_caller_identity.current.account_id]
    }
  }
}

resource "aws_iam_role" "worker" {
  name               = "${var.name}-worker"
  description        = "Workers and feeder"
  assume_role_policy = data.aws_iam_policy_document.tasks.json
}

resource "aws_iam_role_policy" "worker" {
  name   = "store"
  role   = aws_iam_role.worker.id
  policy = templatefile("${local.policies}/worker.json", local.places)
}

resource "aws_iam_role" "watcher" {
  name               = "${var.name}-watcher"
  description        = "Submits what arrives; reads and writes no results"
  assume_role_policy = data.aws_iam_policy_document.tasks.json
}

resource "aws_iam_role_policy" "watcher" {
  name   = "store"
  role   = aws_iam_role.watcher.id
  policy = templatefile("${local.policies}/submitter.json", local.places)
}

resource "aws_iam_role_policy" "notifications" {
  name   = "notifications"
  role   = aws_iam_role.watcher.id
  policy = templatefile("${local.policies}/notifications.json", { queue_arn = aws_sqs_queue.arrivals.arn })
}

# Only where images whose report is published are to be tagged or moved.
resource "aws_iam_role_policy" "reported" {
  count = var.when_reported == "keep" ? 0 : 1

  name   = "reported"
  role   = aws_iam_role.watcher.id
  policy = templatefile("${local.policies}/${var.when_reported}-reported.json", local.places)
}

# What ECS itself needs to start a task: the image, the logs, the one secret.
resource "aws_iam_role" "start" {
  name               = "${var.name}-start"
  description        = "Lets ECS start the tasks"
  assume_role_policy = data.aws_iam_policy_document.tasks.json
}

resource "aws_iam_role_policy_attachment" "start" {
  role       = aws_iam_role.start.name
  policy_arn = "arn:aws:iam::aws:policy/service-role/AmazonECSTaskExecutionRolePolicy"
}

data "aws_iam_policy_document" "secret" {
  statement {
    actions   = ["secretsmanager:GetSecretValue"]
    resources = [aws_secretsmanager_secret.broker.arn]
  }

  statement {
    actions   = ["kms:Decrypt"]
    resources = [aws_kms_key.this.arn]
  }
}

resource "aws_iam_role_policy" "secret" {
  name   = "secret"
  role   = aws_iam_role.start.id
  policy = data.aws_iam_policy_document.secret.json
}
