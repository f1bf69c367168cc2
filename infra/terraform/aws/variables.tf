variable "name" {
  description = "What everything here is called, or starts with"
  type        = string
  default     = "screen"
}

variable "region" {
  description = "Where the images may be kept by law comes first"
  type        = string
}

variable "vpc_id" {
  description = "Network of the workers and of Redis"
  type        = string
}

variable "subnet_ids" {
  description = "Private subnets with a way to S3, ECR, SQS, Secrets Manager and CloudWatch: VPC endpoints, or a NAT gateway"
  type        = list(string)
}

variable "image" {
  description = "The image, by digest: registry/smear-screen@sha256:..."
  type        = string

  validation {
    condition     = can(regex("@sha256:[0-9a-f]{64}$", var.image))
    error_message = "Name the image by its digest; a tag can be moved."
  }
}

variable "redis_password" {
  description = "32 to 128 letters and digits, for example of openssl rand -hex 32"
  type        = string
  sensitive   = true

  validation {
    condition     = can(regex("^[0-9A-Za-z]{32,128}$", var.redis_password))
    error_message = "32 to 128 letters and digits: it becomes part of an address."
  }
}

variable "redis_node_type" {
  description = "The smallest is enough: messages are small"
  type        = string
  default     = "cache.t4g.small"
}

variable "worker_processes" {
  description = "Images at once in each worker, and its processors: a size that Fargate has"
  type        = number
  default     = 2
}

variable "worker_memory" {
  description = "MiB of each worker; an image at which workers died is tried once more with up to 8 GiB"
  type        = number
  default     = 12288
}

variable "min_workers" {
  description = "Workers that are always there"
  type        = number
  default     = 1

  validation {
    condition     = var.min_workers >= 1
    error_message = "Scaling goes by the workers' processors: without a worker nothing would ever start one."
  }
}

variable "max_workers" {
  description = "What the night may cost"
  type        = number
  default     = 16
}

variable "when_reported" {
  description = "What becomes of images whose report is published: keep, tag, or move (to reported/)"
  type        = string
  default     = "keep"

  validation {
    condition     = contains(["keep", "tag", "move"], var.when_reported)
    error_message = "One of keep, tag, move."
  }
}

variable "old_versions_days" {
  description = "How long what was overwritten or deleted can be brought back; the end of what is erased on a patient's demand"
  type        = number
  default     = 30
}

variable "incoming_days" {
  description = "Images are deleted so long after they arrived; 0 keeps them"
  type        = number
  default     = 0
}

variable "budget_dollars" {
  description = "Per month, for everything that has the tag application"
  type        = number
}

variable "alarm_emails" {
  description = "Who hears of the budget"
  type        = list(string)
}

variable "log_days" {
  description = "How long logs are kept; they name no patients and no files"
  type        = number
  default     = 365
}
