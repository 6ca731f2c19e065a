-- Removes an event that nobody has worked on for a while: at once all that
-- tells its state, so that it is absent, then in parts what nothing names any
-- more. If it was made anew meanwhile, nothing is touched.
--
-- KEYS   the fixed ones; pages whose bitmaps go; buckets of ids that go
-- ARGV   for how long nobody must have worked on it, in ms
-- reply  done, "in use"; or done, "gone", 1 if there was a state, some of the
--        pages whose bitmaps are still there

server()
local at = call('HGET', K.meta, 'raw')
if at and raw - (tonumber(at) or 0) < num() then return { 'done', 'in use' } end

for _, pages in ipairs({ call('ZRANGE', K.pages, 0, -1), call('ZRANGE', K.fresh_pages, 0, -1),
  call('SMEMBERS', K.spent_pages) }) do
  for _, page in ipairs(pages) do call('SADD', K.trash, page) end
end
for _, name in ipairs(FIXED) do
  if name ~= 'trash' then call('UNLINK', K[name]) end
end
for _, page in ipairs(declared) do
  for part = 0, 4 do call('UNLINK', page_key(page, part)) end
  call('SREM', K.trash, page)
end
for _, key in pairs(bucket_key) do call('UNLINK', key) end
return { 'done', 'gone', at and 1 or 0, call('SRANDMEMBER', K.trash, 64) }
