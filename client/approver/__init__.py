"""What a person at the hospital reads before he or she says yes or no to a study."""
