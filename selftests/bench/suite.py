#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Mesh authors
"""Time and memory of libmesh and other allocators, on many workloads.

Each round runs every workload under every allocator, one after the other, so that a machine that
gets slower meanwhile treats all alike. What is compared is the ratio to glibc in the same round,
and of these ratios the median is taken. PSS is sampled in a round of its own, for that takes time.
"""
import argparse
import csv
import math
import os
import statistics
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.realpath(__file__))
BUILD = os.environ.get("MESH_BUILD", os.path.join(HERE, "../../build"))
BENCH = os.path.join(BUILD, "selftests/bench")
LIBRARIES = "/usr/lib/%s-linux-gnu" % os.uname().machine
ALLOCATORS = {
    "glibc": None,
    "jemalloc": LIBRARIES + "/libjemalloc.so.2",
    "mimalloc": LIBRARIES + "/libmimalloc.so.2.0",
    "tcmalloc": LIBRARIES + "/libtcmalloc_minimal.so.4",
    "mesh": os.path.join(BUILD, "user/libmesh.so"),
}
METRICS = ("wall", "cpu", "rss", "pss")
TITLES = {"wall": "time", "cpu": "processor time", "rss": "peak RSS", "pss": "peak PSS"}

# The redis server of the workload of that name: both fills of redis-load, and reading back.
REDIS = "redis-server --save '' --appendonly no --port 0 --unixsocket %s --maxmemory 60mb" \
        " --maxmemory-policy allkeys-random"


# Debian's programs, not what somebody has put before them.
ENVIRONMENT = dict(os.environ, PATH="/usr/sbin:/usr/bin:/sbin:/bin")


def run(*command):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True,
                          env=ENVIRONMENT).stdout


def real_programs(work):
    """Names and commands of the programs that are not ours."""
    programs = os.path.join(HERE, "programs")
    source = os.path.join(work, "templates.ii")
    run("g++", "-E", programs + "/templates.cc", "-o", source)
    compiler = run("gcc", "-print-prog-name=cc1plus").strip()
    return {
        "cc1plus": [compiler, "-quiet", "-O1", source, "-o", "/dev/null"],
        "lua": ["lua5.4", programs + "/objects.lua"],
        "python": ["env", "PYTHONMALLOC=malloc", "python3", programs + "/objects.py"],
        "ruby": ["ruby", programs + "/objects.rb"],
        "sqlite": ["sqlite3", ":memory:", ".read " + programs + "/queries.sql"],
    }


def redis(work):
    """Options of measure, and the server's command."""
    socket = os.path.join(work, "redis.sock")
    load = "%s/redis-load --socket %s --keys 200000 --phase " % (BENCH, socket)
    client = "until test -S %s; do sleep 0.01; done; " % socket
    client += " && ".join(load + phase for phase in ("fill1", "fill2", "verify"))
    return ["--client", client, *(REDIS % socket).replace("''", "").split(" ")]


def all_workloads(work, percent):
    """From name to the arguments of measure."""
    load = BENCH + "/load"
    table = {name: [load, name, percent] for name in run(load, "--list").split()}
    table.update(real_programs(work))
    table["redis"] = redis(work)
    return table


def measure(command, library, pss=False):
    options = ["--preload", library] if library else []
    options += ["--pss"] if pss else []
    numbers = run(BENCH + "/measure", *options, *command).split()
    return dict(zip(METRICS, map(float, numbers)))


def measure_all(workloads, allocators, rounds):
    """From (workload, allocator) to the results of the rounds, PSS in all of them."""
    results = {}
    for name, command in workloads.items():
        pss = {a: measure(command, lib, True)["pss"] for a, lib in allocators.items()}
        for _ in range(rounds):
            for allocator, library in allocators.items():
                result = measure(command, library)
                result["pss"] = pss[allocator]
                results.setdefault((name, allocator), []).append(result)
        print_progress(name, allocators, results)
    return results


def ratio(results, name, allocator, metric):
    """Median over the rounds of the ratio to glibc."""
    pairs = zip(results[name, allocator], results[name, "glibc"])
    return statistics.median(a[metric] / max(b[metric], 0.001) for a, b in pairs)


def print_progress(name, allocators, results):
    times = " ".join("%s %.2f/%.2f/%.2f" % (a, ratio(results, name, a, "wall"),
                                       ratio(results, name, a, "cpu"),
                                       ratio(results, name, a, "rss"))
                     for a in allocators if a != "glibc")
    base = statistics.median(r["wall"] for r in results[name, "glibc"])
    print("# %-14s %7.0f ms  time/cpu/RSS: %s" % (name, base, times), flush=True)


def geomean(values):
    return math.exp(sum(math.log(max(v, 1e-9)) for v in values) / len(values))


def print_table(results, workloads, allocators, metric):
    others = [a for a in allocators if a != "glibc"]
    print("\n%s, glibc = 1\n%-14s" % (TITLES[metric], "")
          + "".join("%10s" % a for a in others) + "   mesh/best")
    columns = {a: [ratio(results, n, a, metric) for n in workloads] for a in others}
    worst = []
    for i, name in enumerate(workloads):
        best = min([1.0] + [columns[a][i] for a in others if a != "mesh"])
        worst.append(columns["mesh"][i] / best)
        print("%-14s" % name + "".join("%10.2f" % columns[a][i] for a in others)
              + "%12.2f" % worst[-1])
    print("%-14s" % "geometric mean" + "".join("%10.3f" % geomean(columns[a]) for a in others)
          + "%12.2f" % geomean(worst))


def write_csv(path, results):
    with open(path, "w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(["workload", "allocator", "round", "wall_ms", "cpu_ms", "rss_kb", "pss_kb"])
        for (name, allocator), rounds in results.items():
            for i, r in enumerate(rounds):
                writer.writerow([name, allocator, i + 1] + [r[m] for m in METRICS])


def plot(directory, results, workloads, allocators, metric):
    """A figure with a group of bars for each workload."""
    names = list(allocators)
    data = os.path.join(directory, metric + ".dat")
    with open(data, "w") as out:
        print("workload", *names, file=out)
        for name in workloads:
            print(name, *("%.4f" % ratio(results, name, a, metric) for a in names), file=out)
    script = """
set terminal svg size 1400,500 font "DejaVu Sans,11" background "white"
set output "%s/%s.svg"
set style data histogram
set style histogram clustered gap 1
set style fill solid 0.8 noborder
set xtics rotate by 45 right
set ylabel "%s, glibc = 1"
set yrange [0:2.5]
set grid ytics
set key top left horizontal
plot for [i=2:%d] "%s" using i:xtic(1) title columnheader(i)
""" % (directory, metric, TITLES[metric], len(names) + 1, data)
    subprocess.run(["gnuplot"], input=script, text=True, check=True)


def parse_arguments():
    parser = argparse.ArgumentParser(prog="run bench", description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="two rounds with half of the work")
    parser.add_argument("--rounds", type=int, help="rounds (5)")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these workloads")
    parser.add_argument("--against", nargs="+", metavar="NAME", default=list(ALLOCATORS),
                        help="these allocators besides glibc and mesh")
    parser.add_argument("--list", action="store_true", help="print the workloads")
    return parser.parse_args()


def choose(options, workloads):
    unknown = set(options.only or []) - set(workloads)
    if unknown:
        sys.exit("bench: no workload %s" % ", ".join(sorted(unknown)))
    wanted = [n for n in workloads if not options.only or n in options.only]
    chosen = [a for a in ALLOCATORS if a in ("glibc", "mesh") or a in options.against]
    for allocator in chosen:
        library = ALLOCATORS[allocator]
        if library and not os.path.exists(library):
            sys.exit("bench: no %s" % library)
    return {n: workloads[n] for n in wanted}, {a: ALLOCATORS[a] for a in chosen}


def main():
    options = parse_arguments()
    directory = os.path.join(BUILD, "bench")
    os.makedirs(directory, exist_ok=True)
    with tempfile.TemporaryDirectory() as work:
        workloads = all_workloads(work, "50" if options.quick else "100")
        if options.list:
            print("\n".join(workloads))
            return
        workloads, allocators = choose(options, workloads)
        rounds = options.rounds or (2 if options.quick else 5)
        results = measure_all(workloads, allocators, rounds)
    write_csv(os.path.join(directory, "results.csv"), results)
    for metric in METRICS:
        print_table(results, workloads, allocators, metric)
        plot(directory, results, workloads, allocators, metric)
    print("\nbench: %s has results.csv and figures" % os.path.relpath(directory))


main()
