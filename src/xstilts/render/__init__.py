"""Tables, figures and documents as text: for the terminal, Markdown, CSV, JSON, LaTeX, SVG."""
