"""Which intermediate task may help a target: estimates that train nothing, and how well they agree with a study."""
