"""Terms that a translation must contain, as an automaton that reads it token by token.

Every way to spell a term is a path in a trie whose failure links lead to the longest other beginning that the tokens
read last are (Aho and Corasick 1975), so that one table lookup moves any hypothesis by any token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serving.step import Ints

OTHERS = 2  # columns for tokens that are no symbol


@dataclass(frozen=True, eq=False)
class WordBorders:
    """Where tokens of a vocabulary begin and end words.

    Attributes:
        joins: Whether a token continues the word before it, so that a term that ended there was not the word.
            Shape (vocab,), bool.
        ends: Whether a word may begin right behind a token, as behind an apostrophe. Shape (vocab,), bool.
    """

    joins: NDArray[np.bool_]
    ends: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Terms:
    """The terms of one sentence.

    Attributes:
        wanted: How often the translation must contain each. Shape (term,), int64.
        weights: Tokens of its longest spelling. Shape (term,), int64.
        symbols: Tokens that occur in spellings, ascending. Shape (symbol,), int64.
        next: The node that a token leads to. Columns 0 and 1 are for tokens that are no symbol, 1 for those behind
            which a word may begin without a space; the others are for symbols in order. Node 0 is the root, node 1
            the root behind such a token. Shape (node, 2 + symbol), int64.
        ends: The term whose spelling ends in a node, or -1. Shape (node,), int64.
        progress: Tokens of a spelling of each term that have been read in a node. Shape (node, term), int64.
        words: Of the vocabulary.
    """

    wanted: Ints
    weights: Ints
    symbols: Ints
    next: Ints
    ends: Ints
    progress: Ints
    words: WordBorders

    @classmethod
    def of(cls, spellings: Sequence[Sequence[Sequence[int]]], wanted: Sequence[int], words: WordBorders) -> Terms:
        """Build the automaton of terms, each with one spelling or more, none of them empty."""
        symbols = sorted({token for term in spellings for spelling in term for token in spelling})
        place = {token: column for column, token in enumerate(symbols, OTHERS)}
        # Where each column leads if no spelling goes on: behind a token after which a word may begin without a space.
        border = np.array([False, True, *(bool(words.ends[token]) for token in symbols)])
        children: list[dict[int, int]] = [{}, {}]
        ends, progress = [-1, -1], [[0] * len(spellings), [0] * len(spellings)]
        for term, ways in enumerate(spellings):
            for way in ways:
                node = int(words.joins[way[0]])
                for depth, token in enumerate(way, 1):
                    if place[token] not in children[node]:
                        children[node][place[token]] = len(children)
                        children.append({})
                        ends.append(-1)
                        progress.append([0] * len(spellings))
                    node = children[node][place[token]]
                    progress[node][term] = depth
                ends[node] = term
        table = np.zeros((len(children), OTHERS + len(symbols)), dtype=np.int64)
        table[0] = border
        fallback, order = [0] * len(children), [0, 1]
        for node in order:  # breadth first: what a node falls back to is complete before it
            back = fallback[node]
            if node:
                table[node] = table[back]
            if ends[node] < 0:
                ends[node] = ends[back]
            progress[node] = [max(own, other) for own, other in zip(progress[node], progress[back], strict=True)]
            for column, child in children[node].items():
                fallback[child] = int(table[back, column]) if node else int(border[column])
                order.append(child)
            table[node, list(children[node])] = list(children[node].values())
        return cls(
            wanted=np.array(wanted, dtype=np.int64),
            weights=np.array([max(map(len, ways)) for ways in spellings], dtype=np.int64),
            symbols=np.array(symbols, dtype=np.int64),
            next=table,
            ends=np.array(ends, dtype=np.int64),
            progress=np.array(progress, dtype=np.int64),
            words=words,
        )
