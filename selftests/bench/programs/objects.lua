-- SPDX-License-Identifier: MIT
-- SPDX-FileCopyrightText: The Mesh authors
-- Tables and strings; Lua allocates each of them with realloc.
local kept = {}
for i = 1, 200000 do
	local key = i * 7919 % 20011
	kept[key] = { id = i, name = "name " .. i, list = { i, i + 1, i + 2 } }
	if i % 3 == 0 then
		kept[i * 31 % 20011] = nil
	end
end
local parts = {}
for key, value in pairs(kept) do
	parts[#parts + 1] = key .. value.name
end
table.sort(parts)
print(#table.concat(parts, ","))
