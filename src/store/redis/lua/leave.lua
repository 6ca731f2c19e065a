-- Gives tickets back.
--
-- KEYS   the fixed ones; the tickets' pages; the buckets of their ids
-- ARGV   count; per ticket: number, id or empty
-- reply  done

local met = begin()
if met then return met end

for _ = 1, num() do
  local number, id = num(), arg()
  spend(number)
  local _, known_number = remembered_id(id)
  if known_number == number then call('HDEL', ids_of(id), id) end
end
return done()
