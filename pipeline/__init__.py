"""What happens to one image and to one patient. No queue, no bucket, no environment in here."""
