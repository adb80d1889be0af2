# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Mesh authors
# shellcheck shell=bash source=selftests/programs/lib.sh
#
# A script that forks a lot: pipelines, command substitution, subshells, traps.

. "$PROGRAMS/lib.sh"

cat >script.bash <<'END'
fib() {
	if [ "$1" -lt 2 ]; then
		echo "$1"
	else
		echo $(($(fib $(($1 - 1))) + $(fib $(($1 - 2)))))
	fi
}
echo "fib $(fib "$1")"
declare -A seen
for i in $(seq "$2"); do
	word=$(echo "word $i" | tr a-z A-Z | sed "s/WORD/item/" | rev)
	seen[$word]=$( (cd / && echo "$((i * i))" | cat | cat) )
	array[i % 50]="${array[i % 50]:-}$word"
done
for key in "${!seen[@]}"; do echo "$key=${seen[$key]}"; done | sort | cksum
printf '%s\n' "${array[@]}" | sort -r | uniq -c | cksum
trap 'echo "bye from $BASH_SUBSHELL"' EXIT
(trap 'echo sub' EXIT; exit 3) || echo "subshell said $?"
coproc tr a-z A-Z; echo hello >&"${COPROC[1]}"; eval "exec ${COPROC[1]}>&-"; cat <&"${COPROC[0]}"
cat <(seq 5) <(seq 3) | while read -r n; do (exit "$n"); echo "$n:$?"; done
for i in $(seq 20); do (sleep 0; echo "$i" >"bg.$i") & done; wait; cat bg.* | sort -n | tr '\n' ' '
END
mkdir a b
depth=$(pick 10 5)
rounds=$(pick 120 20)
(cd a && bash ../script.bash "$depth" "$rounds" >../plain 2>plain.err)
(cd b && mesh bash ../script.bash "$depth" "$rounds" >../meshed 2>meshed.err)
same plain meshed
same a/plain.err b/meshed.err
