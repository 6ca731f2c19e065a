-- Ends sessions.
--
-- KEYS   the fixed ones
-- ARGV   count; the sessions
-- reply  done, for each 1 when it was there, else 0

local met = begin()
if met then return met end

local answers = {}
for i = 1, num() do
  local session = arg()
  answers[i] = call('ZREM', K.active, session)
  m.closed = m.closed + answers[i]
  add('closed', answers[i])
  call('ZADD', K.ended, 'NX', int(m.time), session)
  call('ZREM', K.unproven, session)
end
return done(answers)
