-- Makes the controller's move, on the state it was planned on.
--
-- KEYS   the fixed ones; the pages of the numbers called and those to sweep
-- ARGV   born, run, seq; gate, calm since or empty, watermark, pace or empty,
--        show rate, how many wait; count, numbers called; count, pages to sweep
-- reply  done, lapsed, expired; or done, "lost"

local met = begin()
if met then return met end

local born, fenced_run, seq = arg(), arg(), num()
local gate, calm_since, to, pace, show = arg(), tonumber(arg()), num(), tonumber(arg()), num()
local waiting = num()
local numbers, sweep = {}, {}
for i = 1, num() do numbers[i] = num() end
for i = 1, num() do sweep[i] = arg() end

local now = m.time
local fenced = m.born == born and m.run == fenced_run and m.seq == seq
-- One call is always affordable: a weak origin is still probed.
local paid = #numbers <= 1 or tokens(pace) >= #numbers
-- Planned before a recovery began: who waits may not be back yet.
if not fenced or m.recovery or now < m.stepped + STEP or not paid then return done('lost') end

local expired = purge()

-- Takes back the offers whose time is over.
local lapsed, shown = call('ZRANGEBYSCORE', K.offers_due, '-inf', int(now)), 0
for _, number in ipairs(lapsed) do
  shown = shown + call('SISMEMBER', K.asked, number)
  drop_offer(number)
end

add('abandoned', #lapsed)
note('waiting', waiting, now)

-- Calls.
m.pace = pace
pay(#numbers)
if #numbers > 0 then m.called_at = now end
m.called = math.max(m.called, math.min(to, m.issued))
for _, number in ipairs(numbers) do
  if number < m.called and not is_spent(number) then
    call('ZADD', K.offers, int(number), int(number))
    call('ZADD', K.offers_due, 'NX', int(now + OFFER), int(number))
  end
end

-- Turns the windows whose time is over.
if now >= m.window_since + m.window_ms then
  m.window = m.window + 1
  m.window_since = now
end
if now >= m.fresh_since + FRESH_WINDOW then
  m.fresh_window = m.fresh_window + 1
  m.fresh_since = now
end

m.seq = m.seq + 1
m.stepped = now
if m.gate ~= gate then
  m.gate = gate
  m.since = now
end
m.calm_since, m.show = calm_since, show
m.settled, m.shown = #lapsed, shown

-- Notes the watermark of this minute; a quarter of an hour is kept.
local minute, marks = int(math.floor(now / 60000)), {}
for marked, called in string.gmatch(m.marks, '(%d+):(%d+)') do
  marks[#marks + 1] = { marked, called }
end
if #marks > 0 and marks[#marks][1] == minute then
  marks[#marks][2] = int(m.called)
else
  marks[#marks + 1] = { minute, int(m.called) }
end
if #marks > 15 then table.remove(marks, 1) end
for i, mark in ipairs(marks) do marks[i] = mark[1] .. ':' .. mark[2] end
m.marks = table.concat(marks, ',')

-- Drops what is dead: pages, ended sessions beyond their time, gateways gone.
local lowest = lowest_page()
local function drop_dead(kind, page)
  local at = turned(kind, page)
  if at == nil then return true end
  if m[kind.window] <= at + 1 then return false end
  call('DEL', window_key(kind, page, 0), window_key(kind, page, 1))
  call('ZREM', kind.index, page)
  return true
end
for _, page in ipairs(sweep) do
  local live_gone, fresh_gone = drop_dead(LIVE, page), drop_dead(FRESH, page)
  -- Which numbers were spent is kept as long as anybody lives among them.
  local gone = live_gone and fresh_gone
  if gone and tonumber(page) < lowest and call('SREM', K.spent_pages, page) == 1 then
    call('DEL', page_key(page, 4))
  end
  if gone then call('HDEL', K.density, page) end
end
call('ZREMRANGEBYSCORE', K.ended, '-inf', int(now - m.session_idle_ms))
-- What was called so long ago may not claim again.
call('ZREMRANGEBYSCORE', K.unproven, '-inf', int(now - (FLOOR_MINUTES + 1) * 60000))
-- Who is gone may be missed for as long as a session may be idle.
local missed = math.max(m.session_idle_ms, 60 * GONE)
for name, other in pairs(gateways()) do
  if other.seen + missed <= now then
    call('HDEL', K.gateways, name .. ':slot', name .. ':seen', name .. ':report',
      name .. ':pushed', name .. ':batch', name .. ':reply')
  end
end

return done(#lapsed, expired)
