"""What is measured, and what measurements say."""
