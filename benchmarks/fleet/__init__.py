"""The benchmark of a whole cycle: ten models in twenty countries, by Perennial and by what one would write without it.

make bench
"""
