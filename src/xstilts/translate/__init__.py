"""Translation: task data in other languages, with answers and entities projected."""
