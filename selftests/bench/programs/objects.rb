# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Mesh authors
# Strings too long to be embedded, arrays and hashes.
kept = {}
250_000.times do |i|
  key = "key #{i * 7919 % 30_011}"
  kept[key] = [("v" * (30 + i % 200)), i.to_s, [i, i + 1, i + 2, i + 3]]
  kept.delete("key #{i * 31 % 30_011}") if i % 3 == 0
end
parts = kept.values.map { |v| v.first + v[1] }
puts parts.sort.join(",").split("v,").map(&:reverse).size
