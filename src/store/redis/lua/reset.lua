-- Begins a new generation: places are void, sessions stay, numbers go on.
-- The bitmaps themselves go later (discard): a page that no index names is none.
--
-- KEYS   the fixed ones
-- ARGV   –
-- reply  done, generation

local met = begin()
if met then return met end

for _, pages in ipairs({ call('ZRANGE', K.pages, 0, -1), call('ZRANGE', K.fresh_pages, 0, -1),
  call('SMEMBERS', K.spent_pages) }) do
  for _, page in ipairs(pages) do call('SADD', K.trash, page) end
end
m.generation = math.max(unix_second(), m.generation + 1)
m.issued = math.max(m.issued, restart(unix_ms()))
m.called = m.issued
-- What was called before is void: gateways that have not heard of the reset
-- may still bring it.
m.marks = '0:' .. int(m.called)
m.pace, m.settled, m.shown, m.show = nil, 0, 0, 1
m.resets = m.resets + 1
call('DEL', K.pages, K.fresh_pages, K.spent_pages, K.offers, K.offers_due, K.asked, K.unproven,
  K.density)
begin_tally()
note_sessions()
return done(int(m.generation))
