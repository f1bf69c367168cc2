output "archive" {
  description = "Where images are put, a folder for each patient"
  value       = local.archive
}

output "reports" {
  description = "Where reports are found; SCREEN_OUT of whoever looks at them"
  value       = local.reports
}

output "arrivals" {
  description = "Queue with news of new images"
  value       = aws_sqs_queue.arrivals.url
}

output "policies" {
  description = "For the roles of people"
  value       = { for name, policy in aws_iam_policy.person : name => policy.arn }
}
