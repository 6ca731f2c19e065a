-- Lets called tickets in, the lowest first.
--
-- KEYS   the fixed ones; the tickets' pages; the buckets of their ids
-- ARGV   count; per ticket: number, session, id or empty
-- reply  done, one text for each: "new EXPIRES", "old EXPIRES", "held",
--        "not yet", "too late" or "spent"

local met = begin()
if met then return met end

local function claim(number, session, id)
  local expires = expiry(session)
  if expires then return 'old ' .. int(expires) end
  -- A session that nobody was ever heard from gave its number back: the claim's
  -- reply may have been lost.
  local given_back = call('ZSCORE', K.unproven, session)
  if has_ended(session) or is_spent(number) and not given_back then return 'spent' end
  if m.recovery then return 'held' end
  if not by_order() then
    if number >= m.called then return 'not yet' end
    local lowest, void = floor()
    if number < void or number < lowest and not lives(number) then return 'too late' end
    -- In a pause nobody is called: who was passed over while absent is not
    -- called now.
    if m.mode == 'pause' and not call('ZSCORE', K.offers, int(number)) then return 'held' end
    -- A late one gets its offer back, in its place; one that asks keeps it.
    call('ZADD', K.offers, int(number), int(number))
    call('ZADD', K.offers_due, int(m.time + OFFER), int(number))
    call('SADD', K.asked, int(number))
    local before = call('ZCOUNT', K.offers, '-inf', '(' .. int(number))
    if m.mode == 'closed' or not has_room(before) then return 'held' end
  end
  if call('ZSCORE', K.offers, int(number)) then
    m.settled = m.settled + 1
    m.shown = m.shown + 1
  end
  spend(number)
  insert(session, m.time + UNPROVEN)
  m.begun = m.begun + 1
  add('begun', 1)
  call('ZADD', K.unproven, int(m.time), session)
  name_session(id, session)
  return 'new ' .. int(m.time + UNPROVEN)
end

purge()
local answers = {}
for i = 1, num() do
  local number, session, id = num(), arg(), arg()
  answers[i] = claim(number, session, id)
end
note_sessions()
return done(answers)
