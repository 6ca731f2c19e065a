-- Lets visitors walk in, or numbers them.
--
-- KEYS   the fixed ones; the pages of `issued` and of the tickets that ids
--        stand for; the buckets of the ids
-- ARGV   gateway, batch, the highest number of the gateway's own or empty,
--        count; per visitor: session, id or empty
-- reply  done, the answers as one text of lines: "s SESSION BEGUN
--        EXPIRES", "t NUMBER" or "c"; or moved, pages

local met = begin()
if met then return met end

local gateway, batch, above, count = arg(), arg(), tonumber(arg()), num()
local entrants, needed = {}, {}
for i = 1, count do entrants[i] = { session = arg(), id = arg() } end

local before = call('HMGET', K.gateways, gateway .. ':batch', gateway .. ':reply')
if before[1] == batch and before[2] then return done(before[2]) end

if above then rise(above) end
for _, entrant in ipairs(entrants) do
  local _, number = remembered_id(entrant.id)
  if number then needed[page_of(number)] = true end
end
needed[page_of(m.issued)] = true
local last = m.issued
for _ = 2, count do last = next_issued(last) end
needed[page_of(last)] = true
local elsewhere = moved(needed)
if elsewhere then return elsewhere end

local GATES = { queue = 'queueing', pause = 'queueing', off = 'open', shadow = 'open', closed = 'closed' }
local gate = GATES[m.mode] or m.gate

local function may_walk_in()
  if m.recovery then return false end
  return by_order() or (gate == 'open' and m.called == m.issued
    and has_room(call('ZCARD', K.offers)) and tokens(m.pace) >= 1)
end

local function enter(entrant)
  local place = known(entrant.id)
  if place then return place end
  if gate == 'closed' then return 'c' end
  -- A batch may arrive once more after later ones, and nobody waits for its reply:
  -- who is inside keeps his time, who has left stays out.
  local till = expiry(entrant.session)
  if till then return 's ' .. entrant.session .. ' ' .. int(m.time) .. ' ' .. int(till) end
  if may_walk_in() and not has_ended(entrant.session) then
    pay(1)
    insert(entrant.session, m.time + UNPROVEN)
    m.begun = m.begun + 1
    add('begun', 1)
    name_session(entrant.id, entrant.session)
    return 's ' .. entrant.session .. ' ' .. int(m.time) .. ' ' .. int(m.time + UNPROVEN)
  end
  local number = m.issued
  m.issued = next_issued(number)
  add('issued', 1)
  hear_one(FRESH, number)
  name_ticket(entrant.id, number)
  return 't ' .. int(number)
end

purge()
local lines = {}
for i, entrant in ipairs(entrants) do lines[i] = enter(entrant) end
note_sessions()
local reply = table.concat(lines, '\n')
row(gateway)
call('HSET', K.gateways, gateway .. ':batch', batch, gateway .. ':reply', reply)
return done(reply)
