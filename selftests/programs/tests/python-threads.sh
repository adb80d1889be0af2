# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Mesh authors
# shellcheck shell=bash source=selftests/programs/lib.sh
#
# Threads of one interpreter that build, drop and check structures, and fork children
# that do the same, with every object from malloc.

. "$PROGRAMS/lib.sh"
need python3

cat >work.py <<'END'
import hashlib, os, random, sys, threading

def work(seed, rounds):
    r, kept = random.Random(seed), {}
    for i in range(rounds):
        key = r.randrange(2000)
        if key in kept:
            text, digest = kept.pop(key)
            assert hashlib.md5(text.encode()).digest() == digest
        else:
            text = "%x" % r.getrandbits(r.randrange(8, 3000))
            kept[key] = (text, hashlib.md5(text.encode()).digest())
    return hashlib.md5(repr(sorted(kept.items())).encode()).hexdigest()

def thread(seed, results, rounds):
    results[seed] = work(seed, rounds)

rounds, results = int(sys.argv[1]), {}
threads = [threading.Thread(target=thread, args=(s, results, rounds)) for s in range(4)]
for t in threads:
    t.start()
for child in range(4):
    pid = os.fork()
    if not pid:
        print("child", child, work(child, rounds), flush=True)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
for t in threads:
    t.join()
print(sorted(results.items()))
END
rounds=$(pick 40000 4000)
python3 work.py "$rounds" >plain
PYTHONMALLOC=malloc mesh python3 work.py "$rounds" >meshed
same plain meshed
