"""From a recipe to a plan: phases, settings, steps and their identities."""
