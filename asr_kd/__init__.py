"""Distil an ensemble of hybrid HMM acoustic models into one network (Hinton, Vinyals and Dean 2015, section 4)."""

__version__ = "0.1.0"
