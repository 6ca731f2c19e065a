-- Writes or removes an event made or overridden through the API, if its
-- version is still the one that was seen. Stands alone: no event's state.
--
-- KEYS   the hash of events
-- ARGV   event id, version seen, its new JSON or empty to remove it
-- reply  done; or conflict, the JSON that stands there or empty

local present, version = redis.call('HGET', KEYS[1], ARGV[1]), 0
if present then
  local readable, event = pcall(cjson.decode, present)
  version = readable and type(event) == 'table' and tonumber(event.version)
  if not version then
    return redis.error_reply('DAMAGED event ' .. ARGV[1] .. ' under key ' .. KEYS[1])
  end
end
if version ~= tonumber(ARGV[2]) then return { 'conflict', present or '' } end
if ARGV[3] == '' then
  redis.call('HDEL', KEYS[1], ARGV[1])
else
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
end
return { 'done' }
