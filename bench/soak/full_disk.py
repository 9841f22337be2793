#!/usr/bin/env python3
"""Do jobs go on behind a full disk? Fills a small file system below a server for 20 s, and looks what becomes of its jobs afterwards.

    mkdir -p /tmp/small && mount -t tmpfs -o size=24m tmpfs /tmp/small
    bench/soak/full_disk.py target/release/forebay /tmp/small

Exits with 1 when jobs are not ended 40 s after there is room again. Python's standard library only.
"""

import collections, json, os, pathlib, sys, tempfile, time, urllib.error, urllib.request
sys.dont_write_bytecode=True
import setting
F, w = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2])
up = pathlib.Path(tempfile.mkdtemp())
prov=setting.Providers(F,up,1,0.0,500)
p=setting.Project(F,w/'project',prov,'http://127.0.0.1:1/hook')
c=json.loads((w/'project/forebay.yaml').read_text()); c['jobs']['webhook']={}; (w/'project/forebay.yaml').write_text(json.dumps(c))
p.up()
time.sleep(2)
def req(path,key,body=None,method='POST',**h):
    r=urllib.request.Request(f'http://127.0.0.1:{p.port}{path}',data=body,method=method,headers={'authorization':'Bearer '+key,'content-type':'application/json',**h})
    try: return urllib.request.urlopen(r,timeout=20).read()
    except urllib.error.HTTPError as e: return e.read()
key=p.keys[0][2]
def job(i): return json.loads(req('/v1/chat/completions',key,json.dumps({'model':'spare','max_tokens':40,'messages':[{'role':'user','content':f'a b c d {i} '+'x '*200}]}).encode(),prefer='respond-async'))
def statuses():
    try: return dict(collections.Counter(j['status'] for j in json.loads(req('/v1/jobs?limit=100',key,method='GET'))['data']))
    except Exception as e: return repr(e)
try:
    for i in range(10): job(i)
    time.sleep(3); print('before',statuses(),flush=True)
    for i in range(12): job(100+i)
    with open(w/'fill','wb') as f:
        try:
            while True: f.write(b'\0'*65536); f.flush()
        except OSError as e: print(e,flush=True)
    for k in range(40):
        job(200+k); time.sleep(.5)
    print('full',statuses(),flush=True)
    os.remove(w/'fill'); time.sleep(3)
    print('after',[str(job(300+i).get('status')) for i in range(5)],flush=True)
    for k in range(8): time.sleep(5); end=statuses(); print((k+1)*5,end,flush=True)
finally:
    if p.process.poll() is None: print('exit',p.stop())
    prov.stop()
sys.exit(0 if set(end) <= {"succeeded"} else 1)
