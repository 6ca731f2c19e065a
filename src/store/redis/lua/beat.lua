-- Adds living tickets, by page.
--
-- KEYS   the fixed ones; the pages
-- ARGV   count; per page: page, its highest number, its bitmap
-- reply  done

local met = begin()
if met then return met end

for _ = 1, num() do
  local page, highest, bits = arg(), num(), arg()
  hear(page, highest, bits)
end
return done()
