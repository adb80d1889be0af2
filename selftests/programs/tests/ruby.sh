# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Mesh authors
# shellcheck shell=bash source=selftests/programs/lib.sh
#
# Ruby: an allocation-heavy script with a compacting collector, output compared.

. "$PROGRAMS/lib.sh"
need ruby

cat >script.rb <<'END'
require 'digest'
rounds = ARGV[0].to_i
r = Random.new(1)
kept = {}
rounds.times do |i|
  key = r.rand(5000)
  if kept.key?(key)
    text, sum = kept.delete(key)
    raise "damaged" unless text.sum == sum
  else
    text = r.bytes(r.rand(1..1500)).unpack1("H*") * 2
    kept[key] = [text, text.sum]
  end
  GC.start if i % (rounds / 10) == 0
  GC.compact if i == rounds / 2 && GC.respond_to?(:compact)
end
words = (1..rounds).map { |i| "w#{i * 7919 % rounds}".to_sym.to_s + "x" * (i % 40) }
tree = words.group_by(&:size).transform_values { |v| v.sort.each_slice(7).map(&:join) }
2.times { GC.start }
puts kept.size, Digest::MD5.hexdigest(kept.sort.inspect), Digest::MD5.hexdigest(tree.inspect)
puts (1..400).inject(:*).to_s.size
threads = 4.times.map { |t| Thread.new { (1..rounds / 20).map { |i| "#{t}-#{i}" * 3 }.join.sum } }
p threads.map(&:value)
END
rounds=$(pick 40000 4000)
ruby script.rb "$rounds" >plain
mesh ruby script.rb "$rounds" >meshed
same plain meshed
