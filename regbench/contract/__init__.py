"""What every registration method must do, tried on pairs with a known answer, and said in plain words.

`phantom` makes the pairs, `checks` are the promises of a method, `conventions` tells which mix-up of signs, units or
axes explains a wrong field, and `trial` runs all of it in a process of its own.
"""
