"""How the sample models were trained, on data made here, and how good they are."""
