#!/usr/bin/env bash
# The same load on a real Redis and on redis-kv, both with one promise: the OK to a SET leaves when
# the write would survive a power loss (`appendfsync always` there).
#
#     examples/redis-kv/compare.sh DIR [ROUNDS]
#
# DIR is where both keep their data: one file system, on a real disk. Every round runs every load on
# one and then on the other, so that what else the machine does strikes both. Prints medians over
# the rounds as Markdown. Needs redis-server, redis-cli and redis-benchmark; with perf, it
# counts the calls of fdatasync and fsync, in a run of their own, which is not timed.
set -euo pipefail

dir=${1:?usage: compare.sh DIR [ROUNDS]}
rounds=${2:-5}
cd "$(dirname "$0")/../.."
for tool in redis-server redis-cli redis-benchmark; do
    command -v "$tool" >/dev/null || { echo "compare.sh: no $tool here" >&2; exit 1; }
done
cargo build --quiet --release --locked -p redis-kv
program=${CARGO_TARGET_DIR:-target}/release/redis-kv
mkdir -p "$dir"
work=$(mktemp -d "$dir/compare.XXXXXX")
mkdir "$work/redis" "$work/kv"
redis_port=7391 kv_port=7392

redis-server --port $redis_port --bind 127.0.0.1 --dir "$work/redis" --appendonly yes \
    --appendfsync always --save '' >"$work/redis.out" 2>&1 &
redis_pid=$!
"$program" serve "$work/kv/log" --port $kv_port >"$work/kv.out" 2>&1 &
kv_pid=$!
trap 'kill $redis_pid $kv_pid 2>/dev/null || true; wait; rm -rf "$work"' EXIT
for port in $redis_port $kv_port; do
    until [ "$(redis-cli -p $port PING 2>/dev/null)" = PONG ]; do sleep 0.1; done
done

# load PORT TEST CLIENTS PIPELINE REQUESTS: requests per second and p99 in ms.
load() {
    redis-benchmark -p "$1" -t "$2" -d 64 -r 100000 -c "$3" -P "$4" -n "$5" --csv 2>/dev/null |
        awk -F'","' 'END { print $2, $7 }'
}

# test clients pipeline requests: a second or two each on a fast disk.
loads='set 1 1 5000
set 1 16 50000
set 8 1 20000
set 8 16 200000
set 50 1 40000
set 50 16 300000
get 1 1 20000
get 50 1 50000
get 50 16 500000'

for round in $(seq "$rounds"); do
    while read -r test clients pipeline requests; do
        # Who goes first takes turns.
        ports="$redis_port $kv_port"
        [ $((round % 2)) = 1 ] || ports="$kv_port $redis_port"
        for port in $ports; do
            result=$(load "$port" "$test" "$clients" "$pipeline" "$requests" </dev/null)
            echo "$test $clients $pipeline $port $result" >>"$work/results"
        done
    done <<<"$loads"
    echo "round $round of $rounds" >&2
done

# The median of column $2 of a load's results.
median() {
    awk -v load="$1" -v column="$2" '$1 " " $2 " " $3 " " $4 == load { print $column }' \
        "$work/results" | sort -g | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'
}

# syncs_of PID PORT CLIENTS PIPELINE REQUESTS: fsync and fdatasync calls per 1000 SETs.
syncs_of() {
    perf stat -x, -o "$work/calls" -p "$1" \
        -e syscalls:sys_enter_fdatasync -e syscalls:sys_enter_fsync -- \
        redis-benchmark -p "$2" -t set -d 64 -r 100000 -c "$3" -P "$4" -n "$5" -q \
        </dev/null >"$work/counted" 2>&1 || { echo -; return; }
    awk -F, -v n="$5" '/sys_enter/ { calls += $1 } END { printf "%.1f", 1000 * calls / n }' \
        "$work/calls"
}

echo "Medians of $rounds interleaved rounds, $(nproc) cores, $(df --output=fstype "$dir" | tail -1);"
echo "$(redis-server --version | cut -d' ' -f1-3), 64-byte values, 100000 keys."
echo
echo '| test | clients | pipeline | Redis /s | redis-kv /s | ratio | Redis p99 ms | redis-kv p99 ms |' \
    'Redis syncs per 1000 | redis-kv syncs per 1000 |'
echo '|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|'
while read -r test clients pipeline requests; do
    key="$test $clients $pipeline"
    theirs=$(median "$key $redis_port" 5) ours=$(median "$key $kv_port" 5)
    their_p99=$(median "$key $redis_port" 6) our_p99=$(median "$key $kv_port" 6)
    their_syncs=- our_syncs=-
    if [ "$test" = set ] && command -v perf >/dev/null; then
        their_syncs=$(syncs_of $redis_pid $redis_port "$clients" "$pipeline" "$requests")
        our_syncs=$(syncs_of $kv_pid $kv_port "$clients" "$pipeline" "$requests")
    fi
    awk -v a="$theirs" -v b="$ours" -v start="| $test | $clients | $pipeline |" \
        -v rest="$their_p99 | $our_p99 | $their_syncs | $our_syncs |" \
        'BEGIN { printf "%s %.0f | %.0f | %.2f | %s\n", start, a, b, b / a, rest }'
done <<<"$loads"
