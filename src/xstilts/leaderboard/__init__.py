"""Files of the leaderboard's layout: written from a study, read, and scored."""
