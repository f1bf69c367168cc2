# Cluster mode off: Celery's queues do not work over a Redis Cluster, and screen refuses one. So no
# MemoryDB. ElastiCache has no append-only file, and none is needed: the result store is the truth,
# and after a failover what was lost with the messages is handed out again.
resource "aws_elasticache_parameter_group" "this" {
  name   = var.name
  family = "redis7"

  # With any other policy a full Redis forgets messages.
  parameter {
    name  = "maxmemory-policy"
    value = "noeviction"
  }
}

resource "aws_elasticache_subnet_group" "this" {
  name       = var.name
  subnet_ids = var.subnet_ids
}

resource "aws_elasticache_user" "default" {
  user_id       = "${var.name}-default"
  user_name     = "default"
  engine        = "redis"
  access_string = "off -@all"

  authentication_mode {
    type = "no-password-required"
  }
}

resource "aws_elasticache_user" "screen" {
  user_id       = "${var.name}-screen"
  user_name     = "screen"
  engine        = "redis"
  access_string = "on ~screen* ~_kombu* ~unacked* &* +@all -@dangerous -@admin +info"

  authentication_mode {
    type      = "password"
    passwords = [var.redis_password]
  }
}

resource "aws_elasticache_user_group" "this" {
  user_group_id = var.name
  engine        = "redis"
  user_ids      = [aws_elasticache_user.default.user_id, aws_elasticache_user.screen.user_id]
}

resource "aws_elasticache_replication_group" "this" {
  # checkov:skip=CKV_AWS_31: passwords are of users (user_group_ids); auth_token excludes them
  replication_group_id       = var.name
  description                = "Messages of ${var.name}; may be emptied at any time"
  engine                     = "redis"
  engine_version             = "7.1"
  node_type                  = var.redis_node_type
  num_cache_clusters         = 2
  automatic_failover_enabled = true
  multi_az_enabled           = true
  parameter_group_name       = aws_elasticache_parameter_group.this.name
  subnet_group_name          = aws_elasticache_subnet_group.this.name
  security_group_ids         = [aws_security_group.redis.id]
  user_group_ids             = [aws_elasticache_user_group.this.user_group_id]
  at_rest_encryption_enabled = true
  kms_key_id                 = aws_kms_key.this.arn
  transit_encryption_enabled = true
  transit_encryption_mode    = "required"
}

resource "aws_secretsmanager_secret" "broker" {
  # checkov:skip=CKV2_AWS_57: the address has the password in it; it is changed by applying anew
  name_prefix = "${var.name}-broker-"
  description = "Address of Redis with its password"
  kms_key_id  = aws_kms_key.this.arn
}

resource "aws_secretsmanager_secret_version" "broker" {
  secret_id     = aws_secretsmanager_secret.broker.id
  secret_string = "rediss://screen:${var.redis_password}@${aws_elasticache_replication_group.this.primary_endpoint_address}:6379/0?ssl_cert_reqs=required"
}
