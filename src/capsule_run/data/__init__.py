"""Tables, as Python modules so that a frozen build needs no data files. Nothing here has logic worth a test of its own."""
