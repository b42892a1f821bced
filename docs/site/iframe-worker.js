// The search runs in a worker, which browsers refuse to a folder that is opened as file://. There, its script
// runs in a hidden frame that has the functions of a worker. Without a file of this name, the plugin `offline`
// would load one from a server.
"use strict";

class FrameWorker extends EventTarget {
  constructor(address) {
    super();
    this.frame = document.createElement("iframe");
    this.frame.hidden = true;
    document.body.append(this.frame);
    const scope = this.frame.contentWindow;
    scope.document.open();
    scope.document.write("<!doctype html><body></body>");
    scope.document.close();
    const load = (source) =>
      new Promise((loaded, failed) => {
        const script = scope.document.createElement("script");
        Object.assign(script, { src: source, onload: loaded, onerror: failed });
        scope.document.body.append(script);
      });
    scope.postMessage = (data) => {
      const event = new MessageEvent("message", { data: structuredClone(data) });
      this.dispatchEvent(event);
      this.onmessage?.(event);
    };
    scope.importScripts = async (...sources) => {
      for (const source of sources) await load(source);
    };
    this.started = load(address);
  }

  postMessage(data) {
    const copy = structuredClone(data);
    this.started.then(() => {
      const scope = this.frame.contentWindow;
      scope.dispatchEvent(new scope.MessageEvent("message", { data: copy }));
    });
  }

  terminate() {
    this.frame.remove();
  }
}

if (location.protocol === "file:") {
  window.Worker = FrameWorker;
  window.IFrameWorker = FrameWorker; // the theme asks for this name before it imports further scripts
}
