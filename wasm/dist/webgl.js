const x=`#version 300 es
in vec3 position;
in vec3 normal;
uniform mat3 axes;
uniform vec3 center;
uniform vec3 scale;
uniform vec3 color;
out vec3 shade;
void main() {
  vec3 at = axes * (position - center);
  gl_Position = vec4(at * scale, 1.0);
  shade = color * (0.3 + 0.7 * max(dot(axes * normal, vec3(-0.36, 0.48, 0.8)), 0.0));
}`,R=`#version 300 es
precision highp float;
in vec3 shade;
out vec4 result;
void main() { result = vec4(shade, 1.0); }`;function b(E){const e=E.getContext("webgl2",{alpha:!1,antialias:!0});if(!e)return;const a=e.createProgram();for(const[r,o]of[[e.VERTEX_SHADER,x],[e.FRAGMENT_SHADER,R]]){const n=e.createShader(r);e.shaderSource(n,o),e.compileShader(n),e.attachShader(a,n)}if(e.linkProgram(a),!e.getProgramParameter(a,e.LINK_STATUS))return;const d=Object.fromEntries(["axes","center","scale","color"].map(r=>[r,e.getUniformLocation(a,r)])),i=new Map;function v(r){const o=i.get(r);o&&(o.buffers.forEach(n=>e.deleteBuffer(n)),e.deleteVertexArray(o.array),i.delete(r))}function T(r,{positions:o,normals:n,triangles:m}){v(r);const f=e.createVertexArray();e.bindVertexArray(f);const u=(c,l)=>{const t=e.createBuffer();return e.bindBuffer(c,t),e.bufferData(c,l,e.STATIC_DRAW),t},h=[["position",o],["normal",n]].map(([c,l])=>{const t=u(e.ARRAY_BUFFER,l),s=e.getAttribLocation(a,c);return e.enableVertexAttribArray(s),e.vertexAttribPointer(s,3,e.FLOAT,!1,0,0),t});h.push(u(e.ELEMENT_ARRAY_BUFFER,m)),e.bindVertexArray(null),i.set(r,{array:f,buffers:h,count:m.length})}function p({camera:r,labels:o,colors:n,far:m}){const[f,u]=[E.width,E.height];e.viewport(0,0,f,u),e.clearColor(0,0,0,1),e.clear(e.COLOR_BUFFER_BIT|e.DEPTH_BUFFER_BIT),e.enable(e.DEPTH_TEST),e.enable(e.CULL_FACE),e.useProgram(a);const[h,c,l]=[0,3,6].map(t=>r.slice(t,t+3));e.uniformMatrix3fv(d.axes,!1,[0,1,2].flatMap(t=>[h[t],c[t],l[t]])),e.uniform3fv(d.center,r.slice(9,12)),e.uniform3f(d.scale,2*r[12]/f,2*r[12]/u,-1/m),o.forEach((t,s)=>{const A=i.get(t);A&&(e.uniform3f(d.color,n[3*s]/255,n[3*s+1]/255,n[3*s+2]/255),e.bindVertexArray(A.array),e.drawElements(e.TRIANGLES,A.count,e.UNSIGNED_INT,0))}),e.bindVertexArray(null)}return{set:T,remove:v,draw:p,has:r=>i.has(r)}}export{b as renderer};
