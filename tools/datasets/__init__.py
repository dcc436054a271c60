"""Public data sets, cut into one `.npz` a device and one test set.

Two ship with the package (`data/`, with their licences); two are fetched with npm on request.
"""
