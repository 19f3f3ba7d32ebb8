"""Making and measuring encoders. Needs the extra `train`; nothing else imports torch."""
