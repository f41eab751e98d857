"""The report as one web page: views of the numbers that `report` and `analysis` compute, and its templates."""
