"""What may be done with a photo: its licence, the rules of its source, the reservations its host stated."""
