# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Mesh authors
# shellcheck shell=bash source=selftests/programs/lib.sh
#
# timeout: 180
#
# redis-server: the benchmark's commands, then fill, evict and refill while a child
# saves a snapshot (fork with a large heap under writes). Every value is read back, in
# the server and in the snapshot, which a server without the library loads.

. "$PROGRAMS/lib.sh"
need redis-server redis-benchmark redis-cli

keys=$(pick 60000 20000)
server=

# start NAME PRELOAD OPTION...: a server on the socket NAME.sock.
start()
{
	local name=$1 preload=$2 try

	shift 2
	LD_PRELOAD=$preload redis-server --port 0 --unixsocket "$PWD/$name.sock" \
		--dir "$PWD" --dbfilename "$name.rdb" --save '' "$@" >"$name.log" 2>&1 &
	server=$!
	for try in $(seq 300); do
		# While it loads a snapshot it answers, but not with PONG.
		[ "$(cli "$name" ping 2>/dev/null)" != PONG ] || return 0
		sleep 0.1
	done
	cat "$name.log"
	fail "redis-server does not answer after $try tries"
}

cli()
{
	redis-cli -s "$PWD/$1.sock" "${@:2}"
}

load()
{
	"$BENCH/redis-load" --socket "$PWD/$1.sock" --keys "$keys" --phase "$2"
}

wait_for_snapshot()
{
	local try

	for try in $(seq 600); do
		! cli a info persistence | grep -q 'rdb_bgsave_in_progress:0' || break
		sleep 0.1
	done
	cli a info persistence | grep -q 'rdb_last_bgsave_status:ok' ||
		fail "the snapshot was not saved ($try tries)"
	[ -s a.rdb ] || fail "there is no snapshot"
}

await_merge()
{
	local try

	for try in $(seq "$(patience)"); do
		sleep 1
		! has_merged $server || break
	done
	echo "info: merged after $try s"
}

watch_merges
start a "$PRELOAD" --maxmemory $((keys * 150)) --maxmemory-policy allkeys-lru
redis-benchmark -s "$PWD/a.sock" -q -n "$(pick 10000 1000)" -c 10 -r 1000 -d 100 \
	-t set,get,incr,lpush,lpop,sadd,hset,zadd,lrange_100,mset >benchmark 2>&1 ||
	fail "redis-benchmark: $(tail -n 3 benchmark)"
! grep -qi error benchmark || fail "redis-benchmark: $(grep -i error benchmark)"
cli a flushall >/dev/null

load a fill1
cli a bgsave >/dev/null
load a fill2
wait_for_snapshot
await_merge
load a verify
cli a shutdown nosave || true
wait $server || fail "redis-server ended badly: $(tail -n 5 a.log)"
must_have_merged

cp a.rdb b.rdb
start b ''
[ "$(cli b dbsize)" -gt 1000 ] || fail "the snapshot has only $(cli b dbsize) keys"
load b verify
cli b shutdown nosave || true
wait
