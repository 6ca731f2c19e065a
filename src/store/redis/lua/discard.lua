-- Deletes the bitmaps of pages that a reset dropped and nobody made anew.
--
-- KEYS   the fixed ones; the pages
-- ARGV   –
-- reply  done

for _, page in ipairs(declared) do
  for _, kind in ipairs({ LIVE, FRESH }) do
    if not turned(kind, page) then
      call('DEL', window_key(kind, page, 0), window_key(kind, page, 1))
    end
  end
  if not spent_key(page) then call('DEL', page_key(page, 4)) end
  call('SREM', K.trash, page)
end
return { 'done' }
