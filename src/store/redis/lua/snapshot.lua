-- Takes a gateway's report and reads the event.
--
-- KEYS   the fixed ones; the pages to read and to count
-- ARGV   gateway, report, the highest number of the gateway's own or empty;
--        its share: holder or empty, turn, held, wanted; ended since; count,
--        pages to read whole; count, pages to count
-- reply  done, meta (field, value, …), clock in ms (not behind the
--        running time), sessions, expired, slot,
--        offers (number, due, …), live pages, fresh pages, bitmaps in the order
--        asked, density (page, counts, …), ended (session, when, …), gateways
--        (name, slot, seen, report, …), pages dropped by a reset and not yet
--        discarded, the tally (field, value, …)

local met = begin()
if met then return met end

local gateway, report, above = arg(), arg(), tonumber(arg())
local holder, turn, held, wanted, since = arg(), num(), num(), num(), num()
if above then rise(above) end
local expired = purge()

-- Settles what the gateway says of its share of the slots: a late word changes
-- nothing, in a recovery nothing is granted.
local function settle_share()
  local kept, kept_slots, kin, late = {}, 0, 0, false
  local function name_of(life) return math.floor(tonumber(life) / 4294967296) end
  each_share(m.shares, function(other, slots, said, till)
    if till <= m.time then return end
    if other == holder then
      late = said >= turn
      if not late then return end
    else
      kept_slots = kept_slots + slots
      -- Earlier lives of the same gateway may still have let somebody in.
      if name_of(other) == name_of(holder) then kin = kin + slots end
    end
    kept[#kept + 1] = table.concat({ other, int(slots), int(said), int(till) }, ':')
  end)
  if not late then
    local free = 0
    if m.limit and not m.recovery then
      free = m.limit - call('ZCARD', K.active) - call('ZCARD', K.offers) - m.ghosts - kept_slots
    end
    local slots = math.max(held, math.min(wanted - kin, free))
    if slots > 0 and #kept < HOLDERS_MAX then
      local till = int(m.time + SHARE_COUNTED + m.session_idle_ms)
      kept[#kept + 1] = table.concat({ holder, int(slots), int(turn), till }, ':')
    end
  end
  m.shares = table.concat(kept, ',')
end
if holder ~= '' then settle_share() end
local mine = row(gateway)
mine.report = report
call('HSET', K.gateways, gateway .. ':report', report)

local front, refresh = {}, {}
for i = 1, num() do front[i] = arg() end
for i = 1, num() do refresh[i] = arg() end

for _, page in ipairs(refresh) do
  living(page)
  local counts, sum = {}, 0
  for i = 0, 7 do
    counts[i + 1] = call('BITCOUNT', K.scratch, i * 1024, i * 1024 + 1023)
    sum = sum + counts[i + 1]
  end
  if sum == 0 then
    call('HDEL', K.density, page)
  else
    call('HSET', K.density, page, table.concat(counts, ','))
  end
end

local bitmaps = {}
for i, page in ipairs(front) do
  living(page)
  bitmaps[i] = call('GET', K.scratch) or ''
end
call('DEL', K.scratch)

local present = {}
for name, other in pairs(gateways()) do
  present[#present + 1] = name
  present[#present + 1] = int(other.slot)
  present[#present + 1] = int(other.seen)
  present[#present + 1] = other.report or ''
end

save()
return { 'done', call('HGETALL', K.meta), int(math.max(raw, m.time)), call('ZCARD', K.active), expired, mine.slot,
  call('ZRANGE', K.offers_due, 0, -1, 'WITHSCORES'), call('ZRANGE', K.pages, 0, -1),
  call('ZRANGE', K.fresh_pages, 0, -1), bitmaps, call('HGETALL', K.density),
  call('ZRANGEBYSCORE', K.ended, int(since), '+inf', 'WITHSCORES'), present,
  call('SRANDMEMBER', K.trash, 64), call('HGETALL', K.tally) }
