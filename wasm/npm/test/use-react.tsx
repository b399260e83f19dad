// Compiled by the test of the package, in a project that has installed it and React.
import { useRef } from "react";
import { SulcusViewer, type SulcusViewerElement } from "sulcus-viewer/react";

export function Case({ image, mask }: { image: File; mask?: Blob }) {
  const viewer = useRef<SulcusViewerElement>(null);
  return (
    <div onClick={() => viewer.current?.goTo({ label: 1 })}>
      <SulcusViewer
        ref={viewer}
        image={image}
        mask={mask}
        style={{ height: 400 }}
        onLocation={({ ras, mask }) => console.log(ras?.[0], mask?.name)}
        onLoad={({ files }) => console.log(files.image)}
        onError={({ message }) => console.log(message)}
        onPredictProgress={({ done }) => console.log(done.toFixed(1))}
      />
    </div>
  );
}

// @ts-expect-error A file is no number.
export const wrong = <SulcusViewer image={5} />;
