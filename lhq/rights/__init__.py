"""What may be done with a photo: its licence, its source's terms, its host's reservations, the user's deny list."""
