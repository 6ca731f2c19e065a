-- Takes in whom a gateway let in by order while the store was away: no limit
-- is asked.
--
-- KEYS   the fixed ones; the visitors' pages; the buckets of their ids
-- ARGV   count; per visitor: session, number or empty, id or empty, proven
--        (1 or 0), until when its pass is good
-- reply  done, for each its expiry, or an empty text when it has ended

local met = begin()
if met then return met end

local function let_in(session, number, id, proven, till)
  if number then spend(number) end
  local expires = expiry(session)
  if expires then return int(expires) end
  if has_ended(session) or till <= m.time then return '' end
  expires = m.time + (proven and m.session_idle_ms or UNPROVEN)
  insert(session, expires)
  m.begun = m.begun + 1
  add('begun', 1)
  name_session(id, session)
  return int(expires)
end

purge()
local answers = {}
for i = 1, num() do
  local session, number, id, proven = arg(), tonumber(arg()), arg(), arg() == '1'
  answers[i] = let_in(session, number, id, proven, num())
end
note_sessions()
return done(answers)
