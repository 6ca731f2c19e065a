// The waiting page's clock: asks for its place when the server says, shows the answer, enters when called.
// Written for old browsers (ES5 syntax): a syntax error would leave a page that neither polls nor refreshes.
(function () {
'use strict';
var data = JSON.parse(document.getElementById('data').textContent);
var texts = data.texts;
var eventName = document.getElementById('name').textContent;
var ticket = data.ticket;
var number = null;
var first = null;
var shown = null;
var failures = 0;
var leaving = false;
var said = '';
var spokenAt = now();
var refusing = navigator.cookieEnabled === false;

function now() {
  return window.performance && performance.now ? performance.now() : Date.now();
}

function element(id) {
  return document.getElementById(id);
}

function write(id, text) {
  var node = element(id);
  if (node.textContent !== text) {
    node.textContent = text;
  }
}

function reveal(id, visible) {
  element(id).hidden = !visible;
}

function fill(text, values) {
  return text.replace(/\{(\w)\}/g, function (all, key) {
    return values[key];
  });
}

// Storage may be forbidden: then the page still works, and only the progress restarts.
function stored(key, value) {
  try {
    if (value === undefined) {
      return JSON.parse(sessionStorage.getItem('sumun:' + data.eventId + ':' + key));
    }
    sessionStorage.setItem('sumun:' + data.eventId + ':' + key, JSON.stringify(value));
    return true;
  } catch (error) {
    return null;
  }
}

// ---- Time: one thing is awaited at a time. A worker's timers are not slowed in a hidden tab.
var job = null;
var due = 0;
var timer = 0;
var worker = null;

function later(ms, next) {
  job = next;
  due = now() + ms;
  arm();
}

function arm() {
  // A longer sleep would overflow the browser's timer and fire at once.
  var sleep = Math.min(Math.max(due - now(), 0) + 20, 600000);
  clearTimeout(timer);
  timer = setTimeout(tick, sleep);
  if (worker) {
    worker.postMessage(sleep);
  }
}

function tick() {
  var next = job;
  if (!next) {
    return;
  }
  if (now() < due) {
    arm();
    return;
  }
  job = null;
  next();
}

// ---- Words. The same rounding as the server's: see `texts.rs`.
function grouped(value) {
  return String(value).replace(/\B(?=(\d{3})+$)/g, ',');
}

function people(value, about) {
  var step = about ? Math.pow(10, Math.max(String(value).length - 3, 0)) : 1;
  return grouped(Math.ceil(value / step) * step);
}

function span(minutes) {
  var hours = Math.floor(minutes / 60);
  var rest = minutes % 60;
  var parts = [];
  if (hours) {
    parts.push(fill(texts.hours, { n: hours }));
  }
  if (rest || !hours) {
    parts.push(fill(texts.minutes, { n: rest }));
  }
  return parts.join(' ');
}

function range(low, high) {
  if (!known(low) || !known(high)) {
    return texts.unknown;
  }
  if (high < 60) {
    return texts.moment;
  }
  var step = high <= 1200 ? 1 : high <= 5400 ? 5 : 30;
  var from = Math.floor(Math.min(low, high) / 60 / step) * step;
  var to = Math.ceil(high / 60 / step) * step;
  if (to > 1440) {
    return from ? fill(texts.over, { a: span(Math.min(from, 1440)) }) : texts.unknown;
  }
  if (!from) {
    return fill(texts.upTo, { b: span(to) });
  }
  if (from === to) {
    return fill(texts.roughly, { a: span(to) });
  }
  return to < 60
    ? fill(texts.minutes, { n: fill(texts.between, { a: from, b: to }) })
    : fill(texts.spanning, { a: span(from), b: span(to) });
}

function known(value) {
  return typeof value === 'number' && value >= 0 && isFinite(value);
}

function speak(text, urgent) {
  if (text !== said && (urgent || now() - spokenAt >= 15000)) {
    said = text;
    spokenAt = now();
    write('live', text);
  }
}

// ---- What is shown
function stage(state, heading, lead) {
  if (element('page').getAttribute('data-state') !== state) {
    element('page').setAttribute('data-state', state);
  }
  write('heading', heading);
  write('lead', lead);
}

function turn(lead) {
  stage('turn', texts.turn, lead);
  document.title = '\u25b6 ' + texts.turn + ' \u00b7 ' + eventName;
  speak(texts.turn + '. ' + lead, true);
}

function note(text) {
  write('note', text || '');
  reveal('note', !!text);
}

function message(text) {
  var before = element('message').textContent;
  write('message', text || '');
  reveal('said', !!text);
  if (text && text !== before) {
    speak(text, true);
  }
}

function show(info, answer) {
  var rank = info && known(info.rank) ? info.rank : null;
  if (rank !== null && (shown === null || rank < shown)) {
    shown = rank;
  }
  if (shown !== null) {
    first = first === null ? shown : Math.max(first, shown);
    stored(number, [first, shown]);
  }
  var about = !!(info && info.about);
  var place = shown === null ? texts.unknown : people(shown, about);
  var wait = range(info && info.low, info && info.high);
  write('place', place);
  reveal('about', about && shown !== null);
  element('place').className = shown === null ? 'unknown' : '';
  write('behind', info && known(info.behind) ? fill(texts.people, { n: people(info.behind, about) }) : texts.unknown);
  write('wait', wait);
  write('updated', clockTime());
  reveal('bar', shown !== null);
  element('bar').value = shown === null ? 0 : Math.round((first - shown) / first * 1000) || 0;
  if (answer.degraded && element('note').textContent !== texts.degraded) {
    speak(texts.degraded, true);
  }
  note(answer.degraded ? texts.degraded : answer.reason === 'ADDRESS_SHARE' ? texts.shared : '');
  message(answer.message);
  if (answer.called) {
    turn(texts.called);
    return;
  }
  stage('wait', texts.heading, texts.lead);
  document.title = shown === null ? eventName : '(' + people(shown, about) + ') ' + eventName;
  if (shown !== null) {
    speak(fill(texts.spoken, { p: (about ? element('about').textContent : '') + place, w: wait }), false);
  }
}

function clockTime() {
  try {
    return new Date().toLocaleTimeString(data.lang);
  } catch (error) {
    return new Date().toLocaleTimeString();
  }
}

// ---- The ticket. Its number names what is remembered: another number is another place.
function adopt(next) {
  var before = number;
  ticket = next;
  try {
    number = JSON.parse(atob(next.split('.')[1].replace(/-/g, '+').replace(/_/g, '/'))).num || 0;
  } catch (error) {
    number = 0;
  }
  if (number === before) {
    return;
  }
  var old = stored(number);
  if (before === null || number > before) {
    first = shown = null;
  }
  if (old && known(old[0]) && known(old[1])) {
    first = first === null ? old[0] : Math.max(first, old[0]);
    shown = shown === null ? old[1] : Math.min(shown, old[1]);
  }
}

// ---- Asking
function poll() {
  var abort = new AbortController();
  var stop = setTimeout(function () {
    abort.abort();
  }, 10000);
  fetch('/__sumun/v1/status', {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify({ eventId: data.eventId, ticket: ticket }),
    credentials: 'same-origin',
    cache: 'no-store',
    signal: abort.signal
  }).then(function (response) {
    return response.text().then(function (body) {
      clearTimeout(stop);
      receive(response, body);
    });
  }).then(null, function () {
    clearTimeout(stop);
    if (!leaving) {
      retry(null);
    }
  });
}

function receive(response, body) {
  var answer = null;
  try {
    answer = JSON.parse(body);
  } catch (error) {
    answer = null;
  }
  // A problem document has a number as its status, a queue's answer a word.
  if (answer && typeof answer.status === 'string') {
    take(answer);
  } else if (/^(401|404|409|410)$/.test(response.status)) {
    restart();
  } else {
    retry(response.headers.get('Retry-After'));
  }
}

function take(answer) {
  failures = 0;
  if (answer.status === 'ENTER') {
    enter(answer.successUrl);
    return;
  }
  if (typeof answer.ticket === 'string') {
    adopt(answer.ticket);
  }
  if (answer.status === 'BLOCK') {
    block(answer);
    return;
  }
  if (typeof answer.ticket !== 'string') {
    restart();
    return;
  }
  settled();
  show(answer.expectedInfo, answer);
  later(Math.max(known(answer.pollAfterMs) ? answer.pollAfterMs : data.pollAfterMs, 1000), poll);
}

function block(answer) {
  var why = texts.blocked[answer.reason] || texts.blocked.CLOSED;
  stage('block', why[0], why[1]);
  note('');
  message(answer.message);
  document.title = why[0] + ' \u00b7 ' + eventName;
  speak(why[0] + '. ' + why[1], true);
  if (known(answer.retryAfterMs)) {
    later(Math.max(answer.retryAfterMs, 1000), poll);
  }
}

// Half of the wait is chance, so that a crowd cut off together does not come back together.
function retry(after) {
  failures += 1;
  var wait = Math.min(30000, 1000 * Math.pow(2, Math.min(failures, 6)));
  wait = wait / 2 + Math.random() * wait / 2;
  if (after) {
    var asked = /^\d+$/.test(after) ? after * 1000 : Date.parse(after) - Date.now();
    // A place is kept for those who ask: no gap longer than a minute.
    if (asked > 0) {
      wait = Math.min(asked, 50000) * (1 + Math.random() / 5);
    }
  }
  note(texts.reconnecting);
  if (failures === 3) {
    speak(texts.reconnecting, true);
  }
  later(wait, poll);
}

// ---- Leaving
function depart(target) {
  leaving = true;
  if (target) {
    location.replace(target);
    return false;
  }
  var walked = comeBack();
  if (!walked) {
    location.reload();
  }
  return walked;
}

// Chromium names a page that reloads itself as its own referrer, and the site would never know where the visitor came
// from. It keeps the referrer of an address that history leads back to: so the page puts a second entry of itself
// behind this one, goes on to a stop of a line of script, and from there two steps back. Other browsers keep it over a
// reload.
function comeBack() {
  var own = location.href.split('#')[0];
  if (!window.chrome || window.top !== window || !document.referrer || document.referrer === own) {
    return false;
  }
  try {
    var stop = new Blob(['<script>' + data.back + '<' + '/script>'], { type: 'text/html' });
    var address = URL.createObjectURL(stop) + '#' + encodeURIComponent(location.href);
    history.pushState(null, '');
    location.href = address;
    return true;
  } catch (error) {
    return false;
  }
}

// Without storage the page cannot know how often it came back; its own age is the guard then.
function sinceLast(mark) {
  return mark ? Math.max(Date.now() - mark, 0) : stored('probe', 1) ? Infinity : now();
}

function enter(url) {
  var since = sinceLast(stored('entered'));
  leaving = true;
  turn(texts.entering);
  note('');
  if (since < 60000) {
    // It entered and stands here again: the pass did not stick.
    reveal('cookies', true);
  }
  var target = typeof url === 'string' && /^(https?:\/\/|\/(?![\/\\]))/i.test(url) ? url : data.enter;
  element('go').href = target || '';
  later(Math.max(10000 - since, 500), function () {
    stored('entered', Date.now());
    var walked = depart(target);
    // Still here after a while: the address was a download, or the way there is slow, or the walk was forbidden.
    later(6000, function () {
      reveal('door', true);
      if (walked) {
        location.reload();
      }
    });
  });
}

// The ticket is not known any more: begin anew, each time with more patience, never within 10 s.
function restart() {
  var mark = stored('restarted') || [0, 0];
  var patience = Math.min(10000 * Math.pow(2, mark[1]), 300000);
  leaving = true;
  later(Math.max(patience - sinceLast(mark[0]), 0), function () {
    stored('restarted', [Date.now(), Math.min(mark[1] + 1, 5)]);
    depart(data.enter);
  });
}

function settled() {
  var mark = stored('restarted');
  if (mark && mark[1]) {
    stored('restarted', [mark[0], 0]);
  }
}

// ---- Beginning
if (!window.fetch || !window.Promise || !window.AbortController) {
  setTimeout(function () {
    depart(data.enter);
  }, Math.max(data.pollAfterMs, 5000));
  return;
}
try {
  worker = new Worker(URL.createObjectURL(new Blob(
    ['var t;onmessage=function(e){clearTimeout(t);t=setTimeout(function(){postMessage(0)},e.data)}'],
    { type: 'text/javascript' })));
  worker.onmessage = tick;
  worker.onerror = function () {
    worker = null;
  };
} catch (error) {
  worker = null;
}
document.addEventListener('visibilitychange', function () {
  if (!document.hidden) {
    tick();
  }
});
window.addEventListener('pageshow', tick);
window.addEventListener('online', function () {
  if (failures && job === poll) {
    due = Math.min(due, now() + Math.random() * 2000);
    arm();
  }
});
reveal('cookies', refusing);
adopt(ticket);
data.message = element('message').textContent;
show(data.info, data);
later(data.pollAfterMs, poll);
})();
