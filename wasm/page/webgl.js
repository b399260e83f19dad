// Draws surfaces with WebGL 2: the projection and the light are those of the module (camera.rs).
const VERTEX = `#version 300 es
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
}`;
const FRAGMENT = `#version 300 es
precision highp float;
in vec3 shade;
out vec4 result;
void main() { result = vec4(shade, 1.0); }`;

// A renderer for a canvas, or undefined where there is no WebGL 2.
export function renderer(canvas) {
  const gl = canvas.getContext("webgl2", { alpha: false, antialias: true });
  if (!gl) return undefined;
  const program = gl.createProgram();
  for (const [kind, source] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, source);
    gl.compileShader(shader);
    gl.attachShader(program, shader);
  }
  gl.linkProgram(program);
  if (!gl.getProgramParameter(program, gl.LINK_STATUS)) return undefined;
  const place = Object.fromEntries(["axes", "center", "scale", "color"].map((name) => [name, gl.getUniformLocation(program, name)]));
  // By label.
  const meshes = new Map();

  function remove(label) {
    const mesh = meshes.get(label);
    if (!mesh) return;
    mesh.buffers.forEach((buffer) => gl.deleteBuffer(buffer));
    gl.deleteVertexArray(mesh.array);
    meshes.delete(label);
  }

  function set(label, { positions, normals, triangles }) {
    remove(label);
    const array = gl.createVertexArray();
    gl.bindVertexArray(array);
    const buffer = (target, data) => {
      const made = gl.createBuffer();
      gl.bindBuffer(target, made);
      gl.bufferData(target, data, gl.STATIC_DRAW);
      return made;
    };
    const buffers = [["position", positions], ["normal", normals]].map(([name, data]) => {
      const made = buffer(gl.ARRAY_BUFFER, data);
      const at = gl.getAttribLocation(program, name);
      gl.enableVertexAttribArray(at);
      gl.vertexAttribPointer(at, 3, gl.FLOAT, false, 0, 0);
      return made;
    });
    buffers.push(buffer(gl.ELEMENT_ARRAY_BUFFER, triangles));
    gl.bindVertexArray(null);
    meshes.set(label, { array, buffers, count: triangles.length });
  }

  // `far` is the largest distance of a vertex from the centre in millimetres.
  function draw({ camera, labels, colors, far }) {
    const [width, height] = [canvas.width, canvas.height];
    gl.viewport(0, 0, width, height);
    gl.clearColor(0, 0, 0, 1);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    gl.enable(gl.DEPTH_TEST);
    gl.enable(gl.CULL_FACE);
    gl.useProgram(program);
    const [a, b, c] = [0, 3, 6].map((i) => camera.slice(i, i + 3));
    // Columns first.
    gl.uniformMatrix3fv(place.axes, false, [0, 1, 2].flatMap((i) => [a[i], b[i], c[i]]));
    gl.uniform3fv(place.center, camera.slice(9, 12));
    gl.uniform3f(place.scale, (2 * camera[12]) / width, (2 * camera[12]) / height, -1 / far);
    labels.forEach((label, i) => {
      const mesh = meshes.get(label);
      if (!mesh) return;
      gl.uniform3f(place.color, colors[3 * i] / 255, colors[3 * i + 1] / 255, colors[3 * i + 2] / 255);
      gl.bindVertexArray(mesh.array);
      gl.drawElements(gl.TRIANGLES, mesh.count, gl.UNSIGNED_INT, 0);
    });
    gl.bindVertexArray(null);
  }

  return { set, remove, draw, has: (label) => meshes.has(label) };
}
