-- Takes a gateway's report and reads the event.
--
-- KEYS   the fixed ones; the pages to read and to count
-- ARGV   gateway, report, the highest number of the gateway's own or empty, ended since; count, pages to read whole; count,
--        pages to count
-- reply  done, meta (field, value, …), clock in ms, sessions, expired, slot,
--        offers (number, due, …), live pages, fresh pages, bitmaps in the order
--        asked, density (page, counts, …), ended (session, when, …), gateways
--        (name, slot, seen, report, …), pages dropped by a reset and not yet
--        discarded, the tally (field, value, …)

local met = begin()
if met then return met end

local gateway, report, above, since = arg(), arg(), tonumber(arg()), num()
if above then rise(above) end
local expired = purge()
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
return { 'done', call('HGETALL', K.meta), int(raw), call('ZCARD', K.active), expired, mine.slot,
  call('ZRANGE', K.offers_due, 0, -1, 'WITHSCORES'), call('ZRANGE', K.pages, 0, -1),
  call('ZRANGE', K.fresh_pages, 0, -1), bitmaps, call('HGETALL', K.density),
  call('ZRANGEBYSCORE', K.ended, int(since), '+inf', 'WITHSCORES'), present,
  call('SRANDMEMBER', K.trash, 64), call('HGETALL', K.tally) }
