"""A few real steps before a long run: what will it take, and what would fail at hour ten?"""
