# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Mesh authors
"""Objects, strings, dictionaries and JSON; run with PYTHONMALLOC=malloc."""
import json


class Node:
    def __init__(self, key):
        self.key = key
        self.links = []


def graph(size):
    nodes = [Node(i) for i in range(size)]
    for i, node in enumerate(nodes):
        node.links.extend(nodes[(i * k + 1) % size] for k in (3, 7, 31))
    return sum(link.key for node in nodes for link in node.links)


def words(size):
    counts = {}
    for i in range(size):
        word = "w%d" % (i * 7919 % 20011)
        counts[word] = counts.get(word, 0) + 1
    return " ".join(sorted(counts)).upper().split("7")


def records(size):
    table = [{"id": i, "name": "name %d" % i, "tags": [str(i), "x" * (i % 50)]}
             for i in range(size)]
    return len(json.loads(json.dumps(table)))


for _ in range(3):
    graph(40000)
    words(100000)
    records(15000)
