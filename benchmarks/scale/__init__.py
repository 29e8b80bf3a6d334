"""Many small cells, and a long past: what each costs beside its training. ``make bench-scale``"""
