import com.sun.net.httpserver.HttpServer;
import java.net.InetSocketAddress;
import java.net.Proxy;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;
import java.util.Arrays;
import java.util.concurrent.Executors;

/** Web serve ADDRESS PORT: a server of one page, whatever is asked for. Web fetch URL: the length of a page, fetched in two ways. */
class Web {
    public static void main(String[] args) throws Exception {
        if (args[0].equals("serve")) {
            var page = new byte[5_000_000];
            Arrays.fill(page, (byte) 'x');
            var server = HttpServer.create(new InetSocketAddress(args[1], Integer.parseInt(args[2])), 0);
            server.createContext("/", exchange -> {
                exchange.sendResponseHeaders(200, page.length);
                try (var body = exchange.getResponseBody()) {
                    body.write(page);
                }
            });
            server.setExecutor(Executors.newFixedThreadPool(4));
            server.start();
            return;
        }
        var uri = URI.create(args[1]);
        var answer = HttpClient.newHttpClient().send(HttpRequest.newBuilder(uri).build(), BodyHandlers.ofByteArray());
        try (var body = uri.toURL().openConnection(Proxy.NO_PROXY).getInputStream()) {
            if (body.readAllBytes().length != answer.body().length) {
                throw new AssertionError("the two ways differ");
            }
        }
        System.out.println(answer.body().length);
    }
}
