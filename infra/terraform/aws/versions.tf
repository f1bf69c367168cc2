terraform {
  required_version = ">= 1.9"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 6.0"
    }
  }

  # The state holds the password of Redis: keep it where it is encrypted and few may read it, e.g.
  # backend "s3" { bucket = "...", key = "screen", use_lockfile = true, encrypt = true }
}

provider "aws" {
  region = var.region

  default_tags {
    tags = {
      application = var.name
    }
  }
}

data "aws_caller_identity" "current" {}
