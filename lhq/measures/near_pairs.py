"""Hashes → pairs: all pairs of 64-bit hashes within a Hamming radius, exactly.

Cut the 64 bits into radius + k blocks: two hashes within the radius differ in at most `radius` blocks, so they
agree on at least k whole ones. For each choice of k blocks, sort by those blocks' bits and compare what falls
together. Sorting moves the bits, not indices: hashes are permuted so that the chosen blocks lead, sorted as
plain integers and permuted back by their place in the list of distinct hashes. A pair that agrees on more than
k blocks would be found many times; it is taken only from the first of its choices.

More blocks mean more sorts of smaller groups: k follows from the number of hashes. Hashes of real pictures are
far from uniform, so a group that is too large for comparing all with all is cut again by its remaining bits.
Source: Manku, Jain, Das Sarma, "Detecting near-duplicates for web crawling", WWW 2007, section 3.
"""

from __future__ import annotations
