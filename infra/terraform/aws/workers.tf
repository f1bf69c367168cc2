locals {
  archive = "s3://${aws_s3_bucket.this.id}/incoming"
  reports = "s3://${aws_s3_bucket.this.id}/reports"

  when_reported = {
    keep = []
    tag  = ["--when-reported", "tag"]
    move = ["--when-reported", "move", "--move-to", "s3://${aws_s3_bucket.this.id}/reported"]
  }

  # Fargate's unit is a thousandth of a processor, as it counts them: 1024.
  processor = 1024

  services = {
    worker = {
      command = ["worker"]
      role    = aws_iam_role.worker.arn
      cpu     = var.worker_processes * local.processor
      memory  = var.worker_memory
      count   = var.min_workers
    }
    feeder = {
      command = ["feed", "--out", local.reports]
      role    = aws_iam_role.worker.arn
      cpu     = local.processor / 2
      memory  = 2048
      count   = 1
    }
    watcher = {
      command = concat(
        ["watch", local.archive, "--out", local.reports, "--queue", aws_sqs_queue.arrivals.url],
        local.when_reported[var.when_reported],
      )
      role    = aws_iam_role.watcher.arn
      cpu     = local.processor / 4
      memory  = 1024
      count   = 1
    }
  }

  environment = {
    AWS_REGION           = var.region
    SCREEN_OUT           = local.reports
    SCREEN_ALLOWED_ROOTS = "${local.archive},${local.reports}"
    SCREEN_PROCESSES     = tostring(var.worker_processes)
    SCREEN_LOG_FORMAT    = "json"
    # Fargate stops a task for good after two minutes at most.
    SCREEN_SHUTDOWN_SECONDS = "90"
  }
}

resource "aws_ecs_cluster" "this" {
  name = var.name

  setting {
    name  = "containerInsights"
    value = "enabled"
  }
}

resource "aws_ecs_cluster_capacity_providers" "this" {
  cluster_name       = aws_ecs_cluster.this.name
  capacity_providers = ["FARGATE", "FARGATE_SPOT"]
}

resource "aws_cloudwatch_log_group" "this" {
  for_each = local.services

  name              = "/${var.name}/${each.key}"
  retention_in_days = var.log_days
  kms_key_id        = aws_kms_key.this.arn
}

resource "aws_ecs_task_definition" "this" {
  for_each = local.services

  family                   = "${var.name}-${each.key}"
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = each.value.cpu
  memory                   = each.value.memory
  task_role_arn            = each.value.role
  execution_role_arn       = aws_iam_role.start.arn

  volume {
    name = "tmp"
  }

  container_definitions = jsonencode([{
    name                   = each.key
    image                  = var.image
    command                = each.value.command
    essential              = true
    user                   = "10001:10001"
    readonlyRootFilesystem = true
    stopTimeout            = 110
    environment            = [for name, value in local.environment : { name = name, value = value }]
    secrets                = [{ name = "SCREEN_BROKER_URL", valueFrom = aws_secretsmanager_secret.broker.arn }]
    mountPoints            = [{ sourceVolume = "tmp", containerPath = "/tmp" }]

    healthCheck = {
      command     = ["CMD", "screen", "health"]
      interval    = 30
      timeout     = 20
      retries     = 3
      startPeriod = 240
    }

    linuxParameters = {
      initProcessEnabled = true
    }

    logConfiguration = {
      logDriver = "awslogs"
      options = {
        awslogs-group         = aws_cloudwatch_log_group.this[each.key].name
        awslogs-region        = var.region
        awslogs-stream-prefix = each.key
      }
    }
  }])
}

# Workers may vanish at any time, so they are bought where that makes them cheap.
resource "aws_ecs_service" "worker" {
  name            = "worker"
  cluster         = aws_ecs_cluster.this.id
  task_definition = aws_ecs_task_definition.this["worker"].arn
  desired_count   = var.min_workers
  depends_on      = [aws_ecs_cluster_capacity_providers.this]

  capacity_provider_strategy {
    capacity_provider = "FARGATE_SPOT"
    weight            = 1
  }

  network_configuration {
    subnets         = var.subnet_ids
    security_groups = [aws_security_group.work.id]
  }

  # How many there are is for the scaling to say.
  lifecycle {
    ignore_changes = [desired_count]
  }
}

resource "aws_ecs_service" "submitting" {
  for_each = toset(["feeder", "watcher"])

  name            = each.key
  cluster         = aws_ecs_cluster.this.id
  task_definition = aws_ecs_task_definition.this[each.key].arn
  desired_count   = local.services[each.key].count
  launch_type     = "FARGATE"

  network_configuration {
    subnets         = var.subnet_ids
    security_groups = [aws_security_group.work.id]
  }
}

resource "aws_appautoscaling_target" "worker" {
  service_namespace  = "ecs"
  scalable_dimension = "ecs:service:DesiredCount"
  resource_id        = "service/${aws_ecs_cluster.this.name}/${aws_ecs_service.worker.name}"
  min_capacity       = var.min_workers
  max_capacity       = var.max_workers
}

# A worker with an image computes, one without sleeps: the processors say how much is to be done
# without anybody counting messages.
resource "aws_appautoscaling_policy" "worker" {
  name               = "processors"
  policy_type        = "TargetTrackingScaling"
  service_namespace  = aws_appautoscaling_target.worker.service_namespace
  scalable_dimension = aws_appautoscaling_target.worker.scalable_dimension
  resource_id        = aws_appautoscaling_target.worker.resource_id

  target_tracking_scaling_policy_configuration {
    target_value       = 60
    scale_out_cooldown = 120
    scale_in_cooldown  = 600

    predefined_metric_specification {
      predefined_metric_type = "ECSServiceAverageCPUUtilization"
    }
  }
}
